/**
 * Append-only journals: UTF-8, one JSON object a line (docs/formats.md). The writer holds one descriptor, gathers lines
 * and makes them durable on demand and at least every two seconds; the reader goes on from a byte offset and ignores a
 * torn last line. A journal is never rewritten: after a failed write its file is cut back to whole lines.
 */
import { closeSync, fdatasync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs"
import { fileFailure } from "../artifact/FileFailure.ts"

const flushBytes = 1 << 16
/** Rows wait at most about this long in memory: what a supervisor sees of a busy worker is that old. */
const flushMs = 200
const syncMs = 2000

export interface JournalWriter {
  /** Appends one object as a line and returns the byte offset at which the line starts. Throws a `FileFailure`. */
  readonly append: (line: Readonly<Record<string, unknown>>) => number
  /** Length in bytes, lines still in memory included. */
  readonly length: () => number
  /** Hands everything to the operating system: it then survives the death of this process. */
  readonly flush: () => void
  /** Makes everything durable: it then survives the death of the machine. */
  readonly sync: () => void
  readonly close: () => void
}

/**
 * Opens a journal for appending. A torn last line (of a process that died while writing) is cut off first.
 * @param options.fresh fails if the file exists.
 */
export const openJournal = (path: string, options: { readonly fresh?: boolean } = {}): JournalWriter => {
  const failed = fileFailure("writing", path)
  const guard = <A>(work: () => A): A => {
    try {
      return work()
    } catch (cause) {
      throw failed(cause)
    }
  }
  const fd = guard(() => openSync(path, options.fresh ? "ax+" : "a+"))
  let written = guard(() => cutTornTail(fd))
  let pending: Array<string> = []
  let pendingBytes = 0
  let flushedAt = performance.now()
  let syncedAt = performance.now()
  let dirty = false
  let broken: unknown

  const flush = (): void => {
    if (broken !== undefined) throw broken
    flushedAt = performance.now()
    if (pending.length === 0) return
    const bytes = Buffer.from(pending.join(""), "utf8")
    let at = 0
    try {
      while (at < bytes.length) at += writeSync(fd, bytes, at)
    } catch (cause) {
      broken = failed(cause)
      try {
        ftruncateSync(fd, written)
      } catch {
        // The reader copes with a torn line; what matters is the first error.
      }
      throw broken
    }
    written += bytes.length
    pending = []
    pendingBytes = 0
    dirty = true
  }

  const sync = (): void => {
    flush()
    if (!dirty) return
    guard(() => fdatasyncSync(fd))
    dirty = false
    syncedAt = performance.now()
  }

  /** Durable soon, without holding up the stage; `sync` is the one that waits. */
  const syncInBackground = (): void => {
    syncedAt = performance.now()
    if (dirty) fdatasync(fd, () => undefined)
  }

  const append = (line: Readonly<Record<string, unknown>>): number => {
    if (broken !== undefined) throw broken
    const text = `${JSON.stringify(line)}\n`
    const offset = written + pendingBytes
    pending.push(text)
    pendingBytes += Buffer.byteLength(text, "utf8")
    const now = performance.now()
    if (pendingBytes >= flushBytes || now - flushedAt >= flushMs) flush()
    if (now - syncedAt >= syncMs) syncInBackground()
    return offset
  }

  const timer = setInterval(() => {
    try {
      flush()
      if (performance.now() - syncedAt >= syncMs) syncInBackground()
    } catch {
      // `broken` is set: the next append or sync throws it where it can be handled.
    }
  }, flushMs)
  timer.unref()

  let closed = false
  return {
    append,
    length: () => written + pendingBytes,
    flush,
    sync,
    close: () => {
      if (closed) return
      closed = true
      clearInterval(timer)
      try {
        if (broken === undefined) sync()
      } finally {
        closeSync(fd)
      }
    }
  }
}

/** Cuts an open file back to its last newline and returns its length. */
const cutTornTail = (fd: number): number => {
  const size = fstatSync(fd).size
  const buffer = Buffer.allocUnsafe(1 << 16)
  let end = size
  while (end > 0) {
    const from = Math.max(0, end - buffer.length)
    const read = readSync(fd, buffer, 0, end - from, from)
    const newline = buffer.subarray(0, read).lastIndexOf(0x0a)
    if (newline >= 0) {
      end = from + newline + 1
      break
    }
    end = from
  }
  if (end < size) ftruncateSync(fd, end)
  return end
}

export interface JournalLine {
  /** Byte offset at which the line starts. */
  readonly offset: number
  readonly value: Readonly<Record<string, unknown>>
}

export interface JournalRead {
  readonly lines: ReadonlyArray<JournalLine>
  /** Where to go on: just after the last whole line. */
  readonly next: number
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * The whole lines of a journal from byte `from` on. A last line without a newline is left for the next call; a whole
 * line that is no JSON object (zeros after a power failure) is skipped. A file that does not exist has no lines.
 */
export const readJournal = (path: string, from = 0): JournalRead => {
  let fd: number
  try {
    fd = openSync(path, "r")
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return { lines: [], next: from }
    throw fileFailure("reading", path)(cause)
  }
  try {
    const size = fstatSync(fd).size
    if (size <= from) return { lines: [], next: from }
    const buffer = Buffer.allocUnsafe(size - from)
    let filled = 0
    while (filled < buffer.length) {
      const read = readSync(fd, buffer, filled, buffer.length - filled, from + filled)
      if (read === 0) break
      filled += read
    }
    const lines: Array<JournalLine> = []
    let start = 0
    for (;;) {
      const newline = buffer.subarray(0, filled).indexOf(0x0a, start)
      if (newline < 0) return { lines, next: from + start }
      const value = parse(buffer.toString("utf8", start, newline))
      if (value !== undefined) lines.push({ offset: from + start, value })
      start = newline + 1
    }
  } catch (cause) {
    throw fileFailure("reading", path)(cause)
  } finally {
    closeSync(fd)
  }
}

const parse = (text: string): Readonly<Record<string, unknown>> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** The last whole line of a journal, found from its end; `undefined` when there is none. */
export const lastLine = (path: string): Readonly<Record<string, unknown>> | undefined => {
  let fd: number
  try {
    fd = openSync(path, "r")
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined
    throw fileFailure("reading", path)(cause)
  }
  try {
    const size = fstatSync(fd).size
    for (let window = 1 << 13; ; window *= 4) {
      const from = Math.max(0, size - window)
      const buffer = Buffer.allocUnsafe(size - from)
      const text = buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, from))
      const end = text.lastIndexOf(0x0a)
      const start = end <= 0 ? -1 : text.lastIndexOf(0x0a, end - 1)
      if (end >= 0 && (start >= 0 || from === 0)) return parse(text.toString("utf8", start + 1, end))
      if (from === 0) return undefined
    }
  } finally {
    closeSync(fd)
  }
}
