"""What this machine can do: checks that only look, each with the fix where there is one."""
