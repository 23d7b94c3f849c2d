"""`make deployment-test`: the compose file, run for real: images, start, a killed replica, a restarted broker."""
