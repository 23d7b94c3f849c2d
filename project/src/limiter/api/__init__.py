"""How the service is asked and answers: HTTP, control messages, the platform's announcements."""
