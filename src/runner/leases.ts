/**
 * Cards and who has them: what a task takes it has to itself until its last process has ended, whatever became of it.
 * Cards are counted among those that this process may use (`CUDA_VISIBLE_DEVICES`).
 */
import { type Mesh, meshDevices } from "../device/mesh.ts"

/** How many cards a task takes. */
export const cardsPerTask = (mesh: Mesh | undefined): number => (mesh === undefined ? 1 : meshDevices(mesh))

/** How many tasks `cards` are enough for at once; one where they are too few, which then says so. */
export const tasksOnCards = (cards: number, mesh: Mesh | undefined): number =>
  Math.max(1, Math.floor(cards / cardsPerTask(mesh)))

export interface Leases {
  /** The lowest numbers that are free, or as many as are left. */
  readonly take: () => ReadonlyArray<number>
  readonly giveBack: (cards: ReadonlyArray<number>) => void
}

/** All of `cards` cards, free. */
export const leases = (cards: number, mesh: Mesh | undefined): Leases => {
  const free = Array.from({ length: cards }, (_, i) => i)
  return {
    take: () => free.splice(0, cardsPerTask(mesh)),
    giveBack: (given) => {
      free.push(...given)
      free.sort((a, b) => a - b)
    }
  }
}

/** Cards as CUDA names them: their numbers, or what stands at their places in the list of those that are visible here. */
export const cardNames = (
  cards: ReadonlyArray<number>,
  visible = process.env["CUDA_VISIBLE_DEVICES"]
): ReadonlyArray<string> => cards.map((card) => visible?.split(",")[card]?.trim() ?? String(card))
