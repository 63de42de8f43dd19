"""The whole of Menagerie on one machine: Prefect, MLflow and the service under supervisor."""
