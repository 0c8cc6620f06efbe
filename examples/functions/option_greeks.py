"""
Greeks of an option by Monte Carlo
==================================

The price of an option is a mean over random paths of a share. Its derivatives by the share's price, its volatility,
the interest rate and the time are called Greeks: delta, vega, rho and theta. Random draws do not depend on what is
differentiated, so they are constants, and the derivative of the mean is the mean of the derivatives.

A European call has a formula to compare with. An Asian one, which pays by the mean over the path, has none.
"""

import math

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

paths, months, strike = 20_000, 12, 100.0


@fg.differentiable
def call(theta, asian):
    """Return the discounted mean payoff of a call for theta = (price, volatility, rate, years)."""
    price, volatility, rate, years = theta[0], theta[1], theta[2], theta[3]
    np.random.seed(1)
    h = years / months
    total = 0.0
    for _ in range(paths):
        log, mean = np.log(price), 0.0
        for _ in range(months):
            log += (rate - 0.5 * volatility**2) * h + volatility * np.sqrt(h) * np.random.standard_normal()
            mean += np.exp(log) / months
        total += max((mean if asian else np.exp(log)) - strike, 0.0)
    return np.exp(-rate * years) * total / paths


@fg.differentiable
def european(theta):
    """Return the price of a call on the last price."""
    return call(theta, False)


@fg.differentiable
def asian(theta):
    """Return the price of a call on the mean price."""
    return call(theta, True)


def formula(price, volatility, rate, years):
    """Return delta, vega, rho and theta of a European call, by Black and Scholes."""
    spread = volatility * math.sqrt(years)
    d1 = (math.log(price / strike) + rate * years) / spread + 0.5 * spread
    below, at_strike = (0.5 * math.erfc(-x / math.sqrt(2.0)) for x in (d1, d1 - spread))
    vega = price * math.exp(-0.5 * d1**2) / math.sqrt(2.0 * math.pi) * math.sqrt(years)
    paid = strike * math.exp(-rate * years) * at_strike
    return below, vega, years * paid, vega * volatility / (2.0 * years) + rate * paid


# %%
# All four Greeks come from one pass over the paths.

theta = np.array([105.0, 0.2, 0.03, 1.0])
columns = fg.gradient(european)(theta), formula(*theta), fg.gradient(asian)(theta)
print(f"{'':6}{'European':>10}{'formula':>10}{'Asian':>10}")
for name, *row in zip(["delta", "vega", "rho", "theta"], *columns, strict=True):
    print(f"{name:6}" + "".join(f"{value:10.3f}" for value in row))

# %%
# Delta and vega over the price of the share: the dots are derivatives of the mean, the lines the formula.

prices = np.linspace(60.0, 150.0, 16)
points = np.array([[price, *theta[1:]] for price in prices])
sampled = {
    "European": [fg.gradient(european)(p) for p in points],
    "Asian": [fg.gradient(asian)(p) for p in points],
}
exact = np.array([formula(*point) for point in points])
figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for k, (axes, name) in enumerate(zip(panels, ["delta", "vega"], strict=True)):
    axes.plot(prices, exact[:, k], color="gray", label="European, formula")
    for kind, greeks in sampled.items():
        axes.plot(prices, np.array(greeks)[:, k], "o", markersize=4, label=f"{kind}, Monte Carlo")
    axes.set(xlabel="price of the share", ylabel=name)
panels[0].legend()
plt.show()
