"""Answers in words: earlier turns as text, and how good an answer is."""
