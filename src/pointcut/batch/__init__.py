"""Thousands of pictures: the same work for each, a journal that a killed run goes on from, and one report."""
