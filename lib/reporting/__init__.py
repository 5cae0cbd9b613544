"""What people see: figures, tables, the HTML report and TensorBoard. No Keras."""

from lib import api

__getattr__ = api.attach(__name__)
