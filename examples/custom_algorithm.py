"""An algorithm of one's own: the first backend that has room. See custom-algorithm.yaml."""


class FillUp:
    def __init__(self, room=10):
        self.room = room

    def rebuild(self, backends):
        self.backends = backends

    def pick(self, context, tried):
        free = (b for b in self.backends if b not in tried and b.active_connections < self.room * b.weight)
        return next(free, None)  # None: no opinion, txlb looks for one itself
