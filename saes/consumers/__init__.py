"""Sockets: fragments for pages, events in JSON for programs."""
