"""What an evaluation of a batch rests on: z as a vector, what trials leave as it was, and checks of the model."""
