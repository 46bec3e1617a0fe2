//! `mobileclip download`.

use mobileclip::hub::Hub;

use crate::args::{Download, Global};
use crate::output::{Outcome, Results, chain, complain};
use crate::progress::Downloads;
use crate::session;

pub fn run(global: &Global, args: &Download) -> anyhow::Result<Outcome> {
    let names = match args.names.as_slice() {
        [] => std::slice::from_ref(&global.model),
        names => names,
    };
    let hub = Hub::from_env()?;
    let mut results = Results::lock();
    let mut failed = 0;
    for name in names {
        let mut downloads = Downloads::new(global.quiet);
        let resolved = hub.resolve(name, &mut |progress| downloads.report(progress));
        drop(downloads);
        match resolved {
            Ok(resolved) => {
                let path = if resolved.config.is_some() { &resolved.dir } else { &resolved.weights };
                results.line(path.display())?;
                results.flush()?;
            }
            Err(error) => {
                failed += 1;
                complain(&chain(&session::mend_model(error.into())));
            }
        }
    }
    Ok(Outcome::of(failed, names.len()))
}
