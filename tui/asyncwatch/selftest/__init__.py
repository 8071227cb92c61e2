"""OTP's own test cases for supervisors, as plain functions that run anywhere: `CASES` has them all by name."""
