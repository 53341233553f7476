/** Ids of runs and attempts: time-ordered by text, and unique across machines that share a warehouse's history. */
import { randomInt } from "node:crypto"

const letters = "0123456789abcdefghijklmnopqrstuvwxyz"

/** `<milliseconds, base 36>-<12 random characters>`: sorts by time until the year 5188. Never part of a result. */
export const newId = (now: number): string => {
  const random = Array.from({ length: 12 }, () => letters[randomInt(letters.length)])
  return `${now.toString(36).padStart(9, "0")}-${random.join("")}`
}
