//! Who git says is at work here, from its configuration files. git itself is not started.

use std::path::{Path, PathBuf};

use crate::config::{Env, known::read_small};

/// Names and e-mail addresses that git may put into commits made in `folder`: a key such as `user.name`, and the value.
///
/// Conditions of `includeIf` are taken to hold: what is known of another folder is known of this person as well.
pub(super) fn identities(env: &Env, home: Option<&Path>, folder: &Path) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (variable, key) in VARIABLES {
        if let Some(value) = env.get(variable).and_then(|value| value.to_str()) {
            found.push((*key, value.to_owned()));
        }
    }
    let mut files: Vec<PathBuf> = Vec::new();
    match env.path("GIT_CONFIG_GLOBAL") {
        Some(file) => files.push(file),
        None => {
            let xdg = env.path("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
            files.extend(xdg.map(|folder| folder.join("git/config")));
            files.extend(home.map(|home| home.join(".gitconfig")));
        }
    }
    files.extend(
        repository(folder)
            .into_iter()
            .flat_map(|folder| [folder.join("config"), folder.join("config.worktree")]),
    );
    for file in files {
        read(&file, home, 0, &mut found);
    }
    found
}

/// The folder in which the repository around `folder` keeps its configuration.
fn repository(folder: &Path) -> Option<PathBuf> {
    let git = folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    if git.is_dir() {
        return Some(git);
    }
    // A worktree or a submodule: a file that says where.
    let text = read_small(&git)?;
    let named = git.parent()?.join(text.strip_prefix("gitdir:")?.trim());
    let common = read_small(&named.join("commondir")).map(|common| named.join(common.trim()));
    Some(common.unwrap_or(named))
}

fn read(file: &Path, home: Option<&Path>, depth: usize, found: &mut Vec<(&'static str, String)>) {
    if depth > INCLUDES {
        return;
    }
    let Some(text) = read_small(file) else { return };
    for (section, key, value) in entries(&text) {
        match (section.as_str(), key.as_str()) {
            ("user" | "author" | "committer", "name") => found.push(("user.name", value)),
            ("user" | "author" | "committer", "email") => found.push(("user.email", value)),
            ("include" | "includeif", "path") => {
                let path = match (value.strip_prefix("~/"), home) {
                    (Some(rest), Some(home)) => home.join(rest),
                    _ => file.parent().unwrap_or(Path::new("")).join(&value),
                };
                read(&path, home, depth + 1, found);
            }
            _ => {}
        }
    }
}

/// Section, key and value of each entry; names in lower case, without subsections.
fn entries(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim) {
        let line = match line.strip_prefix('[') {
            Some(rest) => {
                let Some((head, rest)) = rest.rsplit_once(']') else { continue };
                section = head.split([' ', '\t', '"']).next().unwrap_or_default().to_ascii_lowercase();
                rest.trim()
            }
            None => line,
        };
        if let Some((key, value)) = line.split_once('=') {
            entries.push((section.clone(), key.trim().to_ascii_lowercase(), unquote(value.trim())));
        }
    }
    entries
}

/// A value without its quotes, escapes and comment.
fn unquote(text: &str) -> String {
    let mut value = String::new();
    let mut is_quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => is_quoted = !is_quoted,
            '#' | ';' if !is_quoted => break,
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other) => value.push(other),
                None => {}
            },
            other => value.push(other),
        }
    }
    value.trim().to_owned()
}

/// Variables by which git is told who commits.
const VARIABLES: &[(&str, &str)] = &[
    ("EMAIL", "user.email"),
    ("GIT_AUTHOR_EMAIL", "user.email"),
    ("GIT_AUTHOR_NAME", "user.name"),
    ("GIT_COMMITTER_EMAIL", "user.email"),
    ("GIT_COMMITTER_NAME", "user.name"),
];

/// How deep files include others. Nobody nests further, and a file may include itself.
const INCLUDES: usize = 4;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn found(folder: &Path, project: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let env: Env = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let found = identities(&env, Some(folder), &folder.join(project));
        found.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn the_files_of_the_user_and_of_the_repository_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let global =
            "[User]\n\tname = \"Ann # Example\" ; a comment\n email=ann@home.example\n[core]\nname = other\n";
        write(
            folder.path(),
            ".gitconfig",
            &format!("{global}[includeIf \"gitdir:~/work/\"]\npath = ~/work.inc\n"),
        );
        write(folder.path(), "work.inc", "[user] email = ann@work.example\n[include]\npath = work.inc\n");
        write(folder.path(), "repo/.git/config", "[user]\n\temail = ann@repo.example\n");
        fs::create_dir_all(folder.path().join("repo/src/deep")).unwrap();

        let mut found = found(folder.path(), "repo/src/deep", &[("GIT_AUTHOR_NAME", "Ann E.")]);

        found.sort();
        found.dedup();
        let expected = [
            "user.email=ann@home.example",
            "user.email=ann@repo.example",
            "user.email=ann@work.example",
            "user.name=Ann # Example",
            "user.name=Ann E.",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_worktree_leads_to_the_repository_that_it_belongs_to() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "main/.git/config", "[user]\nname = Ann Example\n");
        write(folder.path(), "main/.git/worktrees/w/commondir", "../..\n");
        let named = folder.path().join("main/.git/worktrees/w");
        write(folder.path(), "w/.git", &format!("gitdir: {}\n", named.display()));

        assert_eq!(found(folder.path(), "w", &[]), ["user.name=Ann Example"]);
    }

    #[test]
    fn without_files_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();

        assert!(found(folder.path(), "nowhere", &[]).is_empty());
    }
}
