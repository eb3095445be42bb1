"""From facts to a verdict: rules, the wait-for graph, and the one answer."""
