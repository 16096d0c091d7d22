"""The event simulator: request by request, with SimPy keeping the time."""
