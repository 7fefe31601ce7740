"""All that touches Ray: the driver, the workers, the cluster. No other folder imports ray."""
