"""MLflow: the durable outbox, delivery, and the content of its pages. No other folder imports mlflow."""
