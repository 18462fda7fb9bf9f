"""How well a model cuts out what it is shown, beside baselines: `pointcut eval`."""
