"""What people see: figures, tables, the HTML report and TensorBoard. No Keras."""

from lib import lazy

__getattr__ = lazy.attach(__name__)
