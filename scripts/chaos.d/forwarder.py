# A socket in front of the engine's, so that one stack can lose the engine while everybody else keeps it.
import os
import socket
import threading


def engine_address():
    """Where DOCKER_HOST, or else Docker's default, is."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    kind, _, rest = host.partition("://")
    if kind == "unix":
        return socket.AF_UNIX, rest
    name, _, port = rest.rpartition(":")
    return socket.AF_INET, (name, int(port))


class Forwarder:
    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.open = set()
        self.listener = None

    @property
    def host(self):
        return f"unix://{self.path}"

    def start(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(128)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        """Nobody can connect any more, and who is connected is cut off."""
        os.unlink(self.path)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for each in self.open:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            family, address = engine_address()
            engine = socket.socket(family)
            try:
                engine.connect(address)
            except OSError:
                client.close()
                engine.close()
                continue
            with self.lock:
                self.open |= {client, engine}
            left = [2]
            for source, target in ((client, engine), (engine, client)):
                threading.Thread(target=self.carry, args=(source, target, (client, engine), left), daemon=True).start()

    def carry(self, source, target, both, left):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for each in both:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        with self.lock:
            left[0] -= 1
            if left[0] == 0:
                self.open -= set(both)
                for each in both:
                    each.close()
