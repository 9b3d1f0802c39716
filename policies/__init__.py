"""An independent judge of GPU serving stacks: it sees resources, never the program behind them."""
