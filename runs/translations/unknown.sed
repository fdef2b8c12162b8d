# Apertium marks words it does not know: names keep their place, any other one empties the line.
s/(.)[*#@]+([[:upper:]])/\1\2/g
s/.*[*#@][^ ].*//
