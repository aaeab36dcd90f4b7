"""The operator's pages as HTML, made of the views. See `worker/operator/app.py` for how they are served."""
