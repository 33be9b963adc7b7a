"""An S3 server for bench/upload.ts that takes uploads and throws them away: what is measured then is the program that
sends. It reads large pieces into one buffer, so that it takes little CPU from that program. With the names of a
certificate and of its key as arguments it speaks TLS. It prints its port, and after each upload how much came."""

import os
import re
import socket
import ssl
import sys
import threading

CREATED = '<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>'
COMPLETED = '<CompleteMultipartUploadResult><ETag>"0"</ETag></CompleteMultipartUploadResult>'
NOTHING = '<ListBucketResult></ListBucketResult>'


def serve(connection):
    """Answers the requests of one connection, one after the other."""
    buffer = bytearray(4 * 2**20)
    view = memoryview(buffer)
    held = 0
    while True:
        while (end := buffer.find(b'\r\n\r\n', 0, held)) < 0:
            if not (count := connection.recv_into(view[held:])):
                return
            held += count
        method, path, *_ = buffer[:end].decode('latin-1').split(' ')
        head = buffer[:end].decode('latin-1').lower()
        length = int((re.search(r'^content-length: *(\d+)', head, re.M) or [0, 0])[1])
        if 'expect: 100-continue' in head:
            connection.sendall(b'HTTP/1.1 100 Continue\r\n\r\n')
        # What has come of the body with the head, then the rest. A body in chunks ends with an empty one.
        is_chunked = 'transfer-encoding: chunked' in head
        came = held - end - 4
        tail = bytes(view[max(end + 4, held - 7) : held])
        while tail != b'\r\n0\r\n\r\n' if is_chunked else came < length:
            most = len(buffer) if is_chunked else min(length - came, len(buffer))
            if not (count := connection.recv_into(view[:most])):
                return
            came += count
            tail = (tail + view[max(0, count - 7) : count])[-7:] if is_chunked else b''
        held = 0
        if method == 'PUT':
            # In one piece, so that lines of several connections don't mix.
            os.write(1, f'{came}\n'.encode())
        body = {'POST': COMPLETED if 'uploadId=' in path else CREATED, 'GET': NOTHING}.get(method, '')
        status = '404 Not Found' if method == 'HEAD' and path.count('/') > 1 else '200 OK'
        connection.sendall(f'HTTP/1.1 {status}\r\nETag: "0"\r\nContent-Length: {len(body)}\r\n\r\n{body}'.encode())


def accept(connection, context):
    try:
        serve(context.wrap_socket(connection, server_side=True) if context else connection)
    except (OSError, ValueError) as error:
        print(f'{error}', file=sys.stderr)
    finally:
        connection.close()


tls = None
if len(sys.argv) > 2:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(('127.0.0.1', 0), backlog=64)
print(f'port {listener.getsockname()[1]}', flush=True)
while True:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=accept, args=(client, tls), daemon=True).start()
