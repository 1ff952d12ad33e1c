"""A text file as a C string: embed.py FILE NAME HEADER OUT."""
import sys

source, name, header, out = sys.argv[1:]
plain = set(range(32, 127)) - set(b'"\\?')
with open(source, "rb") as f, open(out, "w") as c:
    c.write(f'#include "{header}"\n\nconst char {name}[] =\n')
    for line in f:
        c.write('    "' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in line) + '"\n')
    c.write("    ;\n")
