"""What is measured with: clocks, the machine, networks, and the systems that ours is measured beside."""
