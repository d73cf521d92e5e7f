"""Commands: each reads its options, calls the library, and shows the result. One file a command."""
