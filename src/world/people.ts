/**
 * What the world's people think of any text: it is read by the exact checker, a line that says nothing certain counts as
 * false, and so does an answer without lines. By this, answers that a policy wrote get votes, and the value of any policy
 * is the mean approval of what it says.
 */
import type { Checker } from "./exact.ts"
import { type Group, sigmoid } from "./groups.ts"
import { type Item, sameItem, type WorldSituation } from "./world.ts"

/** Mean over lines of a group's taste, plus 1 for a true line, minus 1 for any other (`groups.ts`, for texts). */
const thoughtOf = (group: Group, lines: ReadonlyArray<Item | null>, situation: WorldSituation): number =>
  lines.length === 0
    ? -1
    : lines.reduce(
        (sum, item) =>
          sum +
          (item === null
            ? -1
            : group.taste[item.perspective]! + (situation.window.some((truth) => sameItem(truth, item)) ? 1 : -1)),
        0
      ) / lines.length

/** Probability that a member of each group approves of a text. */
export const approvalsOfText = (
  checker: Checker,
  groups: ReadonlyArray<Group>,
  text: string,
  situation: WorldSituation
): ReadonlyArray<number> => {
  const lines = checker.lines(text).map(checker.meaning)
  return groups.map((group) => sigmoid(thoughtOf(group, lines, situation)))
}
