"""What a request says, and how one that is refused is answered."""
