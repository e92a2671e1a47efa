#!/usr/bin/env bash
# shell-scripts.sh: lists the shell scripts of the project, by name or by their
# first line.
set -euo pipefail
cd "$(dirname "$0")/.."

git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
  [[ -f $file ]] || continue
  if [[ $file == *.sh ]] || head -n 1 "$file" | grep -aqE '^#!.*[/ ](ba)?sh$'; then
    echo "$file"
  fi
done
