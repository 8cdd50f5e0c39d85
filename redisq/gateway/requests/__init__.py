"""What a request says, and how one that is refused is answered: `errors` gives a status, who raised it the text."""
