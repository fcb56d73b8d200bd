"""Guides instead of solving: exercises, attempts, hints by rung, reasons for mistakes, under a teacher's policy."""
