import { expect, it } from "vitest"
import { screen } from "../../src/cli/screen.ts"

/** A terminal as far as the screen uses one: lines, a cursor row, and the sequences it writes. */
const terminal = (rows = 24) => {
  let lines: Array<string> = [""]
  let row = 0
  let cursor = true
  const write = (text: string) => {
    for (const piece of text.replaceAll("\x1b", "␛").match(/␛\[[?\d]*[A-Zhl]|\n|\r|[^␛\n\r]+/gu) ?? []) {
      const rise = /^␛\[(\d+)A$/u.exec(piece)
      if (rise) row -= Number(rise[1])
      else if (piece === "␛[0J") lines = [...lines.slice(0, row), ""]
      else if (piece === "␛[?25l") cursor = false
      else if (piece === "␛[?25h") cursor = true
      else if (piece === "\n") lines[++row] ??= ""
      else if (piece !== "\r") lines[row] = piece
    }
  }
  return {
    isTTY: true,
    columns: 80,
    rows,
    write,
    seen: () => lines.filter((line) => line !== ""),
    cursor: () => cursor
  }
}

it("keeps what was said and redraws the rest below it", () => {
  const t = terminal()
  const s = screen(t)
  s.say(["header"])
  s.draw(["a 1/2", "b 1/2"])
  s.draw(["a 2/2", "b 1/2"])
  s.say(["a done"])
  expect(t.seen()).toEqual(["header", "a done", "a 2/2", "b 1/2"])
  expect(t.cursor()).toBe(false)
  s.say(["b started"], ["b 2/2"])
  expect(t.seen()).toEqual(["header", "a done", "b started", "b 2/2"])
  s.close()
  expect(t.seen()).toEqual(["header", "a done", "b started"])
  expect(t.cursor()).toBe(true)
})

it("never draws more lines than it can move over again", () => {
  const t = terminal(5)
  const s = screen(t)
  const many = Array.from({ length: 40 }, (_, i) => `task ${i}`)
  s.draw(many)
  s.draw(many)
  expect(t.seen()).toEqual(["task 37", "task 38", "task 39"])
})

it("writes plain lines where there is no terminal, and draws nothing", () => {
  const written: Array<string> = []
  const s = screen({ write: (text) => written.push(text) })
  s.draw(["a 1/2"])
  s.say(["a done"])
  s.close()
  expect(written).toEqual(["a done\n"])
})
