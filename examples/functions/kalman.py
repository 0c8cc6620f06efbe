"""
Likelihood of a Kalman filter
=============================

The volume of the Nile was measured at Aswan each year from 1871 to 1970. The simplest model of such a series is a level
that wanders, measured with noise; its two unknowns are the variances of both. A Kalman filter computes their likelihood
in one pass over the years, and forward mode differentiates it, filter and all.

The second derivatives at the maximum give the uncertainty of what was found.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

volumes = """
1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140 1100 1210 1150 1250 1260
1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969 831 726 456 824 702 1120 1100 832 764 821 768 845 864
862 698 845 744 796 1040 759 781 865 845 944 984 897 822 1010 771 676 649 846 812 742 801 1040 860 874 848 890 744 749
838 1050 918 986 797 923 975 815 1020 906 901 1170 912 746 919 718 714 740
"""
nile = np.array(volumes.split(), float)  # 10⁸ cubic metres


@fg.differentiable
def filtered(theta):
    """Return minus the log likelihood, and the level and its variance after each year.

    `theta` holds the logarithms of the variances of the noise and of the level's yearly change.
    """
    noise, change = np.exp(theta[0]), np.exp(theta[1])
    level, variance = nile[0], noise  # nothing is known before the first year
    levels, variances = np.empty(len(nile)), np.empty(len(nile))
    total = 0.0
    for t in range(len(nile)):
        if t > 0:
            variance += change
            spread = variance + noise
            error = nile[t] - level
            total += 0.5 * (np.log(2.0 * np.pi * spread) + error**2 / spread)
            gain = variance / spread
            level += gain * error
            variance *= 1.0 - gain
        levels[t], variances[t] = level, variance
    return total, levels, variances


@fg.differentiable
def minus_log_likelihood(theta):
    """Return minus the log likelihood alone."""
    return filtered(theta)[0]


# %%
# Durbin and Koopman report 15,099 for the noise and 1,469 for the level.

start = np.log([10_000.0, 10_000.0])
found = fg.minimize(minus_log_likelihood, start, steps=300)
errors = np.sqrt(np.diag(np.linalg.inv(fg.hessian(minus_log_likelihood)(found.x))))
for name, value, error in zip(["noise", "level"], found.x, errors, strict=True):
    low, high = np.exp([value - error, value + error])
    print(
        f"variance of the {name:6} {np.exp(value):8,.0f}, from {low:,.0f} to {high:,.0f} within a standard error"
    )

_, levels, variances = filtered(found.x)
years, spread = np.arange(1871, 1971), 1.64 * np.sqrt(variances)
figure, axes = plt.subplots(figsize=(7.5, 3.5), layout="constrained")
axes.plot(years, nile, ".", color="gray", label="measured")
axes.plot(years, levels, label="level")
axes.fill_between(years[1:], (levels - spread)[1:], (levels + spread)[1:], alpha=0.2, label="90 %")
axes.set(xlabel="year", ylabel="volume in 10⁸ m³")
axes.legend()
plt.show()
