"""An HTTP server of recommendations: answers, batches of requests, and the application."""
