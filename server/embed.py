"""Files as a C source: embed.py OUT FILE..."""
import hashlib
import os
import sys

out, files = sys.argv[1], sys.argv[2:]
table = []
with open(out, "w", encoding="ascii") as c:
    c.write('#include "page.h"\n')
    for number, path in enumerate(files):
        with open(path, "rb") as f:
            data = f.read()
        c.write(f"static const unsigned char file{number}[] = {{{','.join(map(str, data))}}};\n")
        etag = '\\"' + hashlib.sha256(data).hexdigest()[:16] + '\\"'
        table.append(f'{{"{os.path.basename(path)}", file{number}, {len(data)}, "{etag}"}}')
    c.write(f"const serve_file serve_files[] = {{{', '.join(table)}}};\n")
    c.write(f"const size_t serve_nfiles = {len(files)};\n")
