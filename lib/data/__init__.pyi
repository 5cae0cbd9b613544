from lib.cleaning.clean import load as load
