"""What a person looks at of a trained model."""
