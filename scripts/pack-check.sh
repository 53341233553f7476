#!/usr/bin/env bash
# Whether the package works where it is installed: packs the working tree, puts the package into an empty folder, starts
# that with `exp init`, compiles its pipeline and one that is wired wrongly, and runs its experiment with a reward, a stage
# and a pipeline that are defined there. `bash scripts/pack-check.sh` takes what the package needs from this repository's
# node_modules and ends in about a minute; `--install` installs it by npm, from the registry, and the compiler with the types
# that `exp init` asks for, as a user would: nothing of this repository's node_modules is used then, Node included.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== pack"
mkdir "$work/source" "$work/lab"
(cd "$root" && git ls-files -co --exclude-standard -z | while IFS= read -r -d '' file; do [[ -e "$file" ]] && printf '%s\0' "$file"; done | xargs -0 cp --parents -t "$work/source")
ln -s "$root/node_modules" "$work/source/node_modules"
(cd "$work/source" && npm pack --silent --ignore-scripts=false --pack-destination "$work" >/dev/null)
diff "$root/package.json" "$work/source/package.json"

echo "== install"
cd "$work/lab"
own=$root/node_modules/.bin
if [[ "${1:-}" == --install ]]; then
  own=
  npm install --silent --no-audit --no-fund "$work"/overtone-*.tgz
else
  mkdir -p node_modules/.bin node_modules/overtone
  tar xzf "$work"/overtone-*.tgz -C node_modules/overtone --strip-components 1
  for package in "$root"/node_modules/*; do
    [[ "$(basename "$package")" == overtone ]] || ln -s "$(realpath "$package")" node_modules/
  done
  ln -s ../overtone/dist/src/cli/launch.mjs node_modules/.bin/exp
fi
export PATH="$work/lab/node_modules/.bin${own:+:$own}:$PATH"
exp init >/dev/null

echo "== types"
if [[ -z "$own" ]]; then
  npm install --silent --no-audit --no-fund
else
  ln -sfn "$root/node_modules/@types" node_modules/@types
fi
tsc
sed 's/{ policy: warm, /{ policy: similarity, /' pipelines/mine.ts >pipelines/wrong.ts
if tsc >wrong.txt; then
  echo "a pipeline with an estimator for a policy compiles"
  exit 1
fi
grep -q 'pipelines/wrong.ts.*encoder' wrong.txt
rm pipelines/wrong.ts

echo "== run"
small=(--set warmStart.steps=20 --set grpo.steps=1 --set estimator.steps=0 --set evaluate.prompts=4)
exp run experiments/first.yaml "${small[@]}" >run.txt 2>&1 || { cat run.txt; exit 1; }
grep -q '0 failed' run.txt
exp sql --format json "select count(*) as n from reward_parts where name = 'brevity' and weight = 1" | grep -q '"n": *32'
exp plan experiments/first.yaml "${small[@]}" --json | grep -q '"state":"cached"'
sed -i.bak 's/Math.min(1,/0.5 * Math.min(1,/' rewards/mine.ts
exp plan experiments/first.yaml "${small[@]}" | grep -q 'code rewards/mine.ts changed'
echo "the package works where it is installed"
