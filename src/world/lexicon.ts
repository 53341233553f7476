/**
 * The words of the Overton world. Names and situations are readable English; content words are a name and a number
 * ("justice3"), so that a person can check a line at a glance, while to a word-level model every word is just an id.
 * Every word consists of letters and digits only (keyword masking keeps it whole), and no name is part of another.
 */

/** Paraphrase families: disjoint fillers, word orders and word pairs; shared content and stance words. */
export const families = ["demonstrations", "triplets", "nli", "evaluation"] as const
export type Family = (typeof families)[number]

const names = (
  "Compassion Kindness Empathy Generosity Justice Fairness Equality Impartiality Freedom Autonomy Independence Choice " +
  "Safety Security Caution Protection Honesty Truth Transparency Sincerity Loyalty Fidelity Commitment Solidarity " +
  "Family Parenthood Kinship Heritage Faith Piety Devotion Sanctity Law Order Obedience Authority Health Wellbeing " +
  "Fitness Longevity Prosperity Thrift Enterprise Ownership Nature Stewardship Sustainability Wildlife Knowledge " +
  "Education Curiosity Wisdom Community Cooperation Friendship Hospitality Courage Humility Patience Temperance " +
  "Diligence Excellence Ambition Duty"
).split(" ")

const clusterWords =
  "caring just free safe truthful loyal kindred sacred lawful healthy wealthy natural learned social virtuous industrious".split(
    " "
  )

/** Perspective `index`'s name. */
export const perspectiveNameOf = (index: number): string => names[index] ?? `Value${index + 1}`

/** Content word `k` of a perspective's own. */
export const ownWord = (index: number, k: number): string => `${perspectiveNameOf(index).toLowerCase()}${k + 1}`

/** Content word `k` that a cluster's perspectives share. */
export const clusterWord = (cluster: number, k: number): string =>
  `${clusterWords[cluster] ?? `cluster${cluster + 1}x`}${k + 1}`

/** Words that say a perspective speaks for (+1) or against (-1) what happens. */
export const stanceWords: { readonly [S in "1" | "-1"]: ReadonlyArray<string> } = {
  "1": ["supports", "favours", "permits", "welcomes"],
  "-1": ["opposes", "rejects", "forbids", "resists"]
}

/** Words without meaning that mark a family's style. */
export const fillers: { readonly [F in Family]: ReadonlyArray<string> } = {
  demonstrations: ["indeed", "surely", "clearly", "plainly"],
  triplets: ["perhaps", "arguably", "possibly", "presumably"],
  nli: ["generally", "typically", "usually", "often"],
  evaluation: ["firmly", "truly", "deeply", "wholly"]
}

/**
 * Word orders of a family's explanations: a, b content words, S stance word, f filler. NLI pairs use all that the others
 * leave: a cross-encoder that only ever saw the stance word at the end takes the place for the word.
 */
export const orders: { readonly [F in Family]: ReadonlyArray<string> } = {
  demonstrations: ["fSab", "faSb"],
  triplets: ["Sfab", "Sfba", "afSb"],
  nli: ["abfS", "fabS", "abSf", "afbS", "aSbf", "Sabf"],
  evaluation: ["aSfb", "Safb"]
}

/** The attributes of a situation: actor, action, object, circumstance; each value has two surface words. */
export const attributes: ReadonlyArray<ReadonlyArray<readonly [string, string]>> = [
  "teacher/tutor nurse/medic farmer/grower lawyer/advocate soldier/trooper journalist/reporter banker/financier student/pupil parent/guardian mayor/councillor artist/sculptor engineer/builder",
  "sells/trades hides/conceals shares/lends destroys/demolishes repairs/mends copies/imitates borrows/rents steals/pilfers praises/applauds mocks/ridicules inherits/receives donates/gifts paints/decorates studies/examines bans/prohibits moves/relocates",
  "letter/message house/cottage horse/pony picture/portrait medicine/remedy weapon/firearm garden/orchard lorry/van document/record bridge/crossing recipe/formula temple/shrine ballot/vote river/stream camera/lens statue/monument",
  "tonight/afterdark secretly/covertly abroad/overseas together/jointly hastily/hurriedly publicly/openly yearly/annually reluctantly/unwillingly anonymously/namelessly drunkenly/tipsily cheaply/inexpensively repeatedly/frequently"
].map((values) =>
  values.split(" ").map((pair) => {
    const [first, second] = pair.split("/")
    return [first!, second!] as const
  })
)
