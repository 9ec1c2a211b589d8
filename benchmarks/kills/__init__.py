"""Kills everything that writes files at random moments, and checks that nothing is lost or left behind."""
