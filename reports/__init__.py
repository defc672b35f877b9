"""From run folders to an answer: summaries, costs, the recommendation, the page."""
