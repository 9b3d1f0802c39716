"""Plan, check and rehearse LLM serving stacks whose replicas start fast."""
