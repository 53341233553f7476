/**
 * A place for people's text beside a run: lines that stay, and in a terminal a few lines below them that are redrawn.
 * Elsewhere only the lines that stay are written. Everything goes to stderr, so that stdout is the result's.
 */

export interface Screen {
  readonly columns: number
  /** Writes lines that stay, above the redrawn part, which `below` replaces where it is given. */
  readonly say: (lines: ReadonlyArray<string>, below?: ReadonlyArray<string>) => void
  /** Replaces the redrawn part; no-op where there is none. */
  readonly draw: (lines: ReadonlyArray<string>) => void
  /** Removes the redrawn part and gives the cursor back. */
  readonly close: () => void
}

export interface Terminal {
  readonly isTTY?: boolean
  readonly columns?: number
  readonly rows?: number
  readonly write: (text: string) => unknown
}

const up = (lines: number) => (lines > 0 ? `\x1b[${lines}A` : "")
const [clearBelow, hideCursor, showCursor] = ["\x1b[0J", "\x1b[?25l", "\x1b[?25h"]

/** One write a change, so that nothing flickers. */
export const screen = (out: Terminal): Screen => {
  const alive = out.isTTY === true && process.env["TERM"] !== "dumb"
  let drawn: ReadonlyArray<string> = []
  const text = (lines: ReadonlyArray<string>) => lines.map((line) => `${line}\n`).join("")
  const replace = (above: ReadonlyArray<string>, below: ReadonlyArray<string>) => {
    // More lines than the terminal has could not be moved over again.
    const fitting = below.slice(-Math.max(1, (out.rows || 24) - 2))
    const hide = drawn.length === 0 && fitting.length > 0 ? hideCursor : ""
    const show = drawn.length > 0 && fitting.length === 0 ? showCursor : ""
    out.write(`${hide}\r${up(drawn.length)}${clearBelow}${text(above)}${text(fitting)}${show}`)
    drawn = fitting
  }
  return {
    get columns() {
      return (out.columns || 101) - 1
    },
    say: (lines, below = drawn) => {
      if (lines.length === 0) return
      if (alive) replace(lines, below)
      else out.write(text(lines))
    },
    draw: (lines) => {
      if (alive) replace([], lines)
    },
    close: () => {
      if (alive && drawn.length > 0) replace([], [])
    }
  }
}
