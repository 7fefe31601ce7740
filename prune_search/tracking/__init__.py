"""MLflow: the durable outbox, delivery, and what its pages show. No other folder imports mlflow."""
