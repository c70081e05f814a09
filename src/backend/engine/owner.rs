//! Whose state a store holds: the account and the region that stand in the ARNs of its records.
//!
//! A store is taken by the first gateway, or import, that has something to put there. Under another
//! account or region its ARNs would be those of two.

use super::Settings;
use super::store::{Owner, Transaction};
use crate::error::{Error, Result};

/// Fails where the store is that of another account or region. One that holds nothing is
/// nobody's.
pub fn check(tx: &Transaction<'_>, settings: &Settings) -> Result<()> {
    let Some(owner) = tx.owner()? else {
        return Ok(());
    };
    if owner == wanted(settings) || tx.is_empty()? {
        return Ok(());
    }
    let Owner { account_id, region } = owner;
    Err(Error::invalid(format!(
        "the state is that of account {account_id} in {region}, which its ARNs name, and not of account {} in {}: give --account-id {account_id} --region {region}, or --state-dir another folder",
        settings.account_id, settings.region
    )))
}

/// Takes the store.
pub fn claim(tx: &Transaction<'_>, settings: &Settings) -> Result<()> {
    check(tx, settings)?;
    let wanted = wanted(settings);
    match tx.owner()? {
        Some(owner) if owner == wanted => Ok(()),
        _ => tx.put_owner(&wanted),
    }
}

fn wanted(settings: &Settings) -> Owner {
    Owner {
        account_id: settings.account_id.clone(),
        region: settings.region.clone(),
    }
}
