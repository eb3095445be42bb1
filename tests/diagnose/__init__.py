"""Tests of the rules, the wait-for graph and the verdict."""
