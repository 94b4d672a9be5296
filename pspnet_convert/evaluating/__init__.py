"""How accurate the models are on annotated images, on one machine or many."""
