"""Gateways, and clients that speak HTTP by hand."""
