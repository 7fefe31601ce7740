"""The storage: paths, files, objects, manifests, states, leases, inventory and budget, local or in an object store."""
