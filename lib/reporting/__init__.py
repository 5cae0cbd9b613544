"""What people see: figures, tables, the HTML report and TensorBoard. No Keras."""
