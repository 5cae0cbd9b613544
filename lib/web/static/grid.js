"use strict";
// Points in square cells, to find the point under the mouse quickly.

class Grid {
  constructor(x, y) {
    const across = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(x.length / 4))));
    this.x = x; this.y = y; this.across = across;
    this.first = new Uint32Array(across * across + 1);
    const cells = new Int32Array(x.length);
    for (let row = 0; row < x.length; row++) {
      cells[row] = Number.isNaN(x[row]) ? -1 : this.column(x[row]) + across * this.column(y[row]);
      if (cells[row] >= 0) this.first[cells[row] + 1]++;
    }
    for (let cell = 0; cell < across * across; cell++) this.first[cell + 1] += this.first[cell];
    const next = this.first.slice();
    this.rows = new Uint32Array(this.first[across * across]);
    for (let row = 0; row < x.length; row++) if (cells[row] >= 0) this.rows[next[cells[row]]++] = row;
  }

  column(value) { return Math.min(this.across - 1, Math.max(0, Math.floor(value * this.across))); }

  // The row of the nearest point within a distance, or -1.
  nearest(x, y, within) {
    let best = -1, least = within * within;
    this.each(x - within, x + within, y - within, y + within, (row) => {
      const dx = this.x[row] - x, dy = this.y[row] - y, distance = dx * dx + dy * dy;
      if (distance <= least) { least = distance; best = row; }
    });
    return best;
  }

  // Calls `visit` with every row in the cells that a rectangle touches.
  each(left, right, bottom, top, visit) {
    for (let j = this.column(bottom); j <= this.column(top); j++) {
      for (let i = this.column(left); i <= this.column(right); i++) {
        const cell = i + this.across * j;
        for (let place = this.first[cell]; place < this.first[cell + 1]; place++) visit(this.rows[place]);
      }
    }
  }
}
